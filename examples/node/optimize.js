"use strict";
// Optimizes a function of three parameters over gRPC with nothing of bbopt but its .proto
// files: creates a study, asks, tells, follows the study's log, reads the best trial.
//
//   node optimize.js [ADDRESS] [STUDY_ID] [N_TRIALS]

const { randomUUID } = require("node:crypto");
const path = require("node:path");
const { setTimeout: sleep } = require("node:timers/promises");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const PROTO = path.join(__dirname, "..", "..", "proto");
const FILES = ["optimization_service", "insight_service"];
const definition = protoLoader.loadSync(
  FILES.map((name) => `bbopt/rpc/v1/${name}.proto`),
  {
    includeDirs: [PROTO],
    keepCase: true, // Names as in the .proto files.
    longs: Number, // Revisions and trial numbers stay far below 2^53.
    enums: String,
    defaults: true, // An empty list is [], not undefined.
    oneofs: true, // `kind` of a ParamValue says which field is set.
  },
);
const v1 = grpc.loadPackageDefinition(definition).bbopt.rpc.v1;

const DEADLINE_MS = 30_000; // Of one attempt; an ask may wait as long for the model.
const N_ATTEMPTS = 5;
const RETRYABLE = new Set([
  grpc.status.UNAVAILABLE,
  grpc.status.DEADLINE_EXCEEDED,
  grpc.status.RESOURCE_EXHAUSTED,
]);

/** Calls a unary method. A repetition has the same request_id, so nothing happens twice. */
async function call(client, method, request) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await new Promise((resolve, reject) => {
        const options = { deadline: Date.now() + DEADLINE_MS };
        client[method](request, options, (error, answer) =>
          error ? reject(error) : resolve(answer),
        );
      });
    } catch (error) {
      if (attempt === N_ATTEMPTS || !RETRYABLE.has(error.code)) throw error;
      await sleep(100 * 2 ** attempt * (0.5 + Math.random()));
    }
  }
}

/**
 * Reads a study's log after a revision until `isEnough(event)`; returns the last revision.
 * A stream that breaks is opened again after the last event that was seen.
 */
async function watch(client, name, since, isEnough) {
  for (let attempt = 1; ; attempt++) {
    const stream = client.WatchStudy({ name, since_revision: since });
    try {
      for await (const event of stream) {
        if (event.revision !== since + 1) throw new Error(`gap after revision ${since}`);
        since = event.revision;
        attempt = 0;
        if (isEnough(event)) return since;
      }
    } catch (error) {
      if (attempt === N_ATTEMPTS || !RETRYABLE.has(error.code)) throw error;
      await sleep(100 * 2 ** attempt);
    } finally {
      stream.on("error", () => {}); // Cancelling ends the stream with an error.
      stream.cancel();
    }
  }
}

function spec(nTrials) {
  return {
    parameters: [
      { id: "rate", double_domain: { min: 1e-4, max: 1, scale: "SCALE_LOG" } },
      { id: "depth", integer_domain: { min: 1, max: 8 } },
      { id: "kind", categorical_domain: { values: ["plain", "gated"] } },
    ],
    metrics: [{ id: "loss", kind: "KIND_OBJECTIVE", goal: "GOAL_MINIMIZE" }],
    budget: { max_trials: nTrials },
    seed: 1,
  };
}

const valueOf = (value) => value[value.kind];

const parametersOf = (trial) =>
  Object.fromEntries(
    Object.entries(trial.parameters).map(([id, value]) => [id, valueOf(value)]),
  );

function evaluate({ rate, depth, kind }) {
  return (Math.log10(rate) + 2) ** 2 + 0.1 * (depth - 5) ** 2 + (kind === "gated" ? 0 : 0.5);
}

async function optimize(optimization, study) {
  for (let n = 0; ; ) {
    const asked = await call(optimization, "AskTrials", {
      parent: study,
      count: 1,
      worker_id: `node-${process.pid}`,
      request_id: randomUUID(),
    });
    for (const trial of asked.trials) {
      const loss = evaluate(parametersOf(trial));
      const outcome = { completed: { metrics: { loss: { value: loss } } } };
      const told = await call(optimization, "TellTrials", {
        parent: study,
        tells: [{ trial: trial.name, lease_token: trial.lease.token, outcome }],
        request_id: randomUUID(),
      });
      const { status } = told.results[0];
      if (status?.code) throw new Error(`${trial.name}: ${status.reason}: ${status.message}`);
      n++;
    }
    if (asked.study_state !== "STATE_ACTIVE") return n; // The budget is spent.
  }
}

async function main([address = "127.0.0.1:50151", studyId = "node", nTrials = "12"]) {
  const credentials = grpc.credentials.createInsecure();
  const optimization = new v1.OptimizationService(address, credentials);
  const insight = new v1.InsightService(address, credentials);
  try {
    const server = await call(optimization, "GetServerInfo", {});
    const { name } = await call(optimization, "CreateStudy", {
      parent: "projects/default",
      study_id: studyId,
      study: { spec: spec(Number(nTrials)) },
      request_id: randomUUID(),
    });
    // Live until the first result, then again from there on, without a gap.
    const [resumedAfter, nTold] = await Promise.all([
      watch(optimization, name, 0, (event) => event.kind === "told"),
      optimize(optimization, name),
    ]);
    const isCompleted = (event) => event.study?.state === "STATE_COMPLETED";
    const revision = await watch(optimization, name, resumedAfter, isCompleted);
    const best = await call(insight, "GetBest", { name });
    const summary = {
      server: server.version,
      study: name,
      n_told: nTold,
      resumed_after: resumedAfter,
      revision,
      best: {
        number: best.trial.number,
        parameters: parametersOf(best.trial),
        loss: best.trial.final_measurement.metrics.loss.value,
        reason: best.reason,
      },
    };
    console.log(JSON.stringify(summary));
  } finally {
    optimization.close();
    insight.close();
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error.details ? `${grpc.status[error.code]}: ${error.details}` : error);
  process.exitCode = 1;
});
