"""What a table and a dashboard show."""
