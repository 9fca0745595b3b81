"""Every statement of the project, one module for each concern, one typed function for each statement."""
