"""Light curves of a lake, detrended and searched for periods."""
