"""Lakes in object stores: publish them, and read them."""
