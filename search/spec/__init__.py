"""Study files: parsed and checked into one `StudySpec`."""
