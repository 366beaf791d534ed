"""Data sets as people have them, one file a format; each reader gives the same records, which know no task."""
