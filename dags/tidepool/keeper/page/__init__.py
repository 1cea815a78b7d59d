"""The keeper's web page: rendered on the server from the books, without scripts, and nothing on it changes anything."""
