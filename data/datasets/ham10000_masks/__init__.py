"""HAM10000 with its masks, as the download holds them."""
