// Decode and prefill speed of llama.cpp (through node-llama-cpp) on the same file, with one thread: tokens per CPU-second.
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const llama = await getLlama({ gpu: false, build: "never", maxThreads: 1, logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath: process.argv[2] });
const cpu = () => { const used = process.cpuUsage(); return (used.user + used.system) / 1e6; };

async function measure(sequences, prefill, decode) {
    const context = await model.createContext({ sequences, contextSize: 512, threads: 1, batchSize: 512 });
    const lanes = Array.from({ length: sequences }, () => context.getSequence());
    const prompt = Array.from({ length: prefill }, (_, i) => 100 + (i * 37) % 2000);
    let before = cpu();
    await Promise.all(lanes.map((lane) => lane.evaluateWithoutGeneratingNewTokens(prompt)));
    const prefillRate = (sequences * prefill) / (cpu() - before);
    before = cpu();
    let made = 0;
    await Promise.all(lanes.map(async (lane) => {
        let count = 0;
        for await (const _ of lane.evaluate([prompt[0]], { temperature: 0, yieldEogToken: true })) {
            made += 1;
            count += 1;
            if (count >= decode) break;
        }
    }));
    const decodeRate = made / (cpu() - before);
    await context.dispose();
    return { prefill_tokens_per_cpu_s: Math.round(prefillRate), decode_tokens_per_cpu_s: Math.round(decodeRate) };
}

const figures = {};
for (const sequences of [1, 4, 8]) figures[`sequences_${sequences}`] = await measure(sequences, 128, 64);
console.log(JSON.stringify(figures));
process.exit(0);
