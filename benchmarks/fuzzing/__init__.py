"""Bad files for every reader of bytes from outside; what a reader may do with them."""
