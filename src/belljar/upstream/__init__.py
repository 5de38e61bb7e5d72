"""Where models are: a client for servers that speak OpenAI chat completions, and what is known of their models."""
