"""What jobs cost: price books, hours of the week, estimates, and what a job holds."""
