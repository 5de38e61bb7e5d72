// openai, unchanged, with the base URL that Groq's guide names for it.

import OpenAI from "openai";
import { testClient } from "./clients.mjs";

testClient({
  make: (url, options) => new OpenAI({ apiKey: "any-key", baseURL: `${url}/openai/v1`, maxRetries: 0, ...options }),
  errors: OpenAI,
  inner: (error) => error.error,
});
