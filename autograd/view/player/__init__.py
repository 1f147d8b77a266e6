"""The player: a web page that plays a tape forward and backward."""
