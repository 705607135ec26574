"""Places where a site can live."""
