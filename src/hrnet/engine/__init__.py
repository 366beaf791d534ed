"""Training and evaluation of any task; knows none of them."""
