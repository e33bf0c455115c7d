"""What people look at: pictures, and one page that holds them."""
