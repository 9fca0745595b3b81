"""One module for each page or group of actions; each lists its ROUTES."""
