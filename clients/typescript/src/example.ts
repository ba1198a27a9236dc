/** `node dist/example.js URL MODEL STREAMING_URL`: what the test of this client runs against a real server. */
import { Modelport, ModelportError, type Schemas } from "./index.js";

const [url, model, streaming] = process.argv.slice(2) as [string, string, string];
const key = process.env["MODELPORT_KEY"];
const modelport = new Modelport({ url, ...(key === undefined ? {} : { key }) });

const versions = await modelport.api.GET("/api/v1/models/{name}/versions", { params: { path: { name: model } } });
const deployed = await modelport.api.GET("/api/v1/deployments/{name}", { params: { path: { name: model } } });
const spec: Partial<Schemas["DeploymentSpec"]> = { replicas: 1 };

// @ts-expect-error: there is no such path
const untyped = () => modelport.api.GET("/api/v1/nothing");
// @ts-expect-error: a model has a name
const unnamed = () => modelport.api.GET("/api/v1/models/{name}", {});

let refusal: unknown[] = [];
try {
  await modelport.api.GET("/api/v1/models/{name}", { params: { path: { name: "nothing" } } });
} catch (error) {
  if (error instanceof ModelportError) refusal = [error.status, error.code, error.message, error.requestId];
}
let badInput = "";
try {
  await modelport.predict(model, [1]);
} catch (error) {
  if (error instanceof ModelportError) badInput = error.message;
}

const words: unknown[] = [];
for await (const part of new Modelport({ url: streaming }).generateStream<{ text_output: string }>("words", {
  text_input: "one two three " + "more ".repeat(400),
  pause_ms: 20,
})) {
  words.push(part.text_output);
  if (words.length === 3) break;
}

console.log(
  JSON.stringify({
    versions: versions.data,
    deployed: deployed.data,
    result: await modelport.predict(model, [[1, 2, 3, 4]]),
    refusal,
    badInput,
    words,
    typed: [typeof untyped, typeof unnamed, spec.replicas],
  }),
);
