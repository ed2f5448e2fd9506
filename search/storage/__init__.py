"""The study's folder and database, and who owns a running trial."""
