"""An embedded Postgres and all three services in one command, for development and demos."""
