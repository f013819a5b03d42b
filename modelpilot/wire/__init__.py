"""Provider wire formats as pure functions: OpenAI's shape inside, each provider's own shape outside. No I/O."""
