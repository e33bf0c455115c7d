"""Reports for people: pictures, and one page that holds them."""
