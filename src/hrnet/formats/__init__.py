"""Data sets: one file per format behind one `Reader` protocol, which returns records that know no task."""
