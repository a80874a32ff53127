"""KiTS19: CT of the abdomen, kidneys and kidney tumors."""
