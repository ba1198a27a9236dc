/**
 * Modelport from TypeScript: `api` is the whole management API, its types generated from the server's OpenAPI
 * (`npm run generate`); predictions go by `predict` and `generateStream`.
 */
import createClient, { type Client, type Middleware } from "openapi-fetch";
import type { components, paths } from "./schema.js";

export type { components, paths };
export type Schemas = components["schemas"];

/** A value of a tensor in JSON: a scalar, or nested lists. */
export type Tensor = number | string | boolean | Tensor[];

export interface Options {
  /** Where the server listens; by default this machine's. */
  url?: string;
  /** A key, as `modelport keys create` shows it once. */
  key?: string;
  fetch?: typeof globalThis.fetch;
}

/** Any answer that is no success, with the server's own words. */
export class ModelportError extends Error {
  constructor(
    message: string,
    readonly status: number,
    /** Such as `not_found`; of the management API only. */
    readonly code?: string,
    /** Under which the server's log has it. */
    readonly requestId?: string,
  ) {
    super(message);
    this.name = "ModelportError";
  }
}

export class Modelport {
  /** The management API, typed: `await modelport.api.GET("/api/v1/models/{name}", {params: {path: {name}}})`. */
  readonly api: Client<paths>;
  readonly #url: string;
  readonly #headers: Record<string, string>;
  readonly #fetch: typeof globalThis.fetch;

  constructor(options: Options = {}) {
    this.#url = (options.url ?? "http://127.0.0.1:8000").replace(/\/+$/, "");
    this.#headers = options.key === undefined ? {} : { "X-Api-Key": options.key };
    this.#fetch = options.fetch ?? globalThis.fetch;
    this.api = createClient<paths>({ baseUrl: this.#url, headers: this.#headers, fetch: this.#fetch });
    this.api.use(raising);
  }

  /** The model's answer to `data`: one row or a batch; by input name for a model with several inputs. */
  async predict<Result = Tensor>(model: string, data: Tensor | Record<string, Tensor>): Promise<Result> {
    const response = await this.#post(`/predict/${encodeURIComponent(model)}`, { data });
    return ((await response.json()) as { result: Result }).result;
  }

  /** The parts of an answer as they come. Leaving the loop cancels the rest in the model. */
  async *generateStream<Part = Record<string, unknown>>(
    model: string,
    inputs: Record<string, Tensor>,
  ): AsyncGenerator<Part> {
    const abort = new AbortController();
    const path = `/v2/models/${encodeURIComponent(model)}/generate_stream`;
    const response = await this.#post(path, inputs, abort.signal);
    if (response.body === null) return;
    let text = "";
    const decoder = new TextDecoder();
    try {
      for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
        const events = (text + decoder.decode(chunk, { stream: true })).split("\n\n");
        text = events.pop() ?? "";
        for (const event of events) {
          const part = JSON.parse(event.slice("data: ".length)) as { error?: unknown };
          if (typeof part.error === "string") throw new ModelportError(part.error, response.status);
          yield part as Awaited<Part>;
        }
      }
    } finally {
      abort.abort();
    }
  }

  async #post(path: string, body: unknown, signal?: AbortSignal): Promise<Response> {
    const response = await this.#fetch(this.#url + path, {
      method: "POST",
      headers: { ...this.#headers, "Content-Type": "application/json" },
      body: JSON.stringify(body),
      ...(signal === undefined ? {} : { signal }),
    });
    if (!response.ok) throw await errorOf(response);
    return response;
  }
}

const raising: Middleware = {
  async onResponse({ response }) {
    if (!response.ok) throw await errorOf(response);
  },
};

async function errorOf(response: Response): Promise<ModelportError> {
  const id = response.headers.get("x-request-id") ?? undefined;
  const text = await response.text();
  try {
    const { error } = JSON.parse(text) as { error: string | { code: string; message: string } };
    if (typeof error === "string") return new ModelportError(error, response.status, undefined, id);
    return new ModelportError(error.message, response.status, error.code, id);
  } catch {
    return new ModelportError(text || response.statusText, response.status, undefined, id);
  }
}
