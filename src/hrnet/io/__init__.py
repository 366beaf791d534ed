"""Files in and out: images, geometry, models, downloads."""
