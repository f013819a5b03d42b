"""What is counted and shown: hourly metrics, savings, and what the site and the analytics API read."""
