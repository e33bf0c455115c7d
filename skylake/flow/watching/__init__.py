"""Watch lists: what has changed in a night among the stars that somebody watches, and who hears of it."""
