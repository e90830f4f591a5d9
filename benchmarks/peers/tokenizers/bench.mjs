// Encoding speed beside Hugging Face's Rust implementation (npm package `tokenizers`): the same tokenizer and text, contenders in turns, medians.
//   npm install tokenizers
//   node bench.mjs --exactflow <exactflow.dll> --text books.txt [--threads 1] [--turns 5] tokenizer.json...
// The peer gets the text as one batch, once as lines and once in pieces of about 16 KB cut at blank lines, and the faster of the two is its figure of a turn; a first turn is not
// counted; ids are not fetched into JavaScript. Ours gets the whole text. On a machine that does other things too, the figures per second of processor time (all threads of the process
// together) are those to look at: `exactflow_per_cpu_second`, `peer_per_cpu_second` and their `ratio_per_cpu_second`.
import { createRequire } from 'node:module';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

const options = { threads: '1', turns: '5' };
const files = [];
for (let i = 2; i < process.argv.length; i++) {
  if (process.argv[i].startsWith('--')) options[process.argv[i].slice(2)] = process.argv[++i];
  else files.push(process.argv[i]);
}
process.env.RAYON_NUM_THREADS = options.threads;
process.env.TOKENIZERS_PARALLELISM = options.threads === '1' ? 'false' : 'true';
const { Tokenizer } = createRequire(path.join(process.cwd(), 'x.js'))('tokenizers');

const text = fs.readFileSync(options.text, 'utf8');
const megabytes = Buffer.byteLength(text) / 1e6;
const pieces = [];
for (let at = 0; at < text.length;) {
  const cut = text.indexOf('\n\n', at + 16000);
  pieces.push(text.slice(at, cut < 0 ? text.length : cut));
  at = cut < 0 ? text.length : cut;
}
const shapes = [text.split('\n').map(line => `${line}\n`), pieces];
const median = values => [...values].sort((a, b) => a - b)[values.length >> 1];

for (const file of files) {
  const peer = Tokenizer.fromFile(file);
  for (const shape of shapes) await peer.encodeBatch(shape.slice(0, 1 + (shape.length >> 3)), undefined, { addSpecialTokens: false });
  const theirs = [], perCpu = [], ours = [], oursPerCpu = [];
  let tokens = 0, ourTokens = 0;
  for (let turn = 0; turn < Number(options.turns); turn++) {
    const rates = [], cpuRates = [];
    for (const shape of shapes) {
      const start = process.hrtime.bigint(), used = process.cpuUsage();
      const encoded = await peer.encodeBatch(shape, undefined, { addSpecialTokens: false });
      const cpu = process.cpuUsage(used);
      rates.push(megabytes / (Number(process.hrtime.bigint() - start) / 1e9));
      cpuRates.push(megabytes / ((cpu.user + cpu.system) / 1e6));
      if (turn === 0) tokens = encoded.reduce((sum, one) => sum + one.getLength(), 0);
    }
    theirs.push(Math.max(...rates));
    perCpu.push(Math.max(...cpuRates));
    const [row] = JSON.parse(execFileSync('dotnet', [options.exactflow, 'tokenizer', 'compare', file, '--text', options.text, '--threads', options.threads, '--json'], { encoding: 'utf8' }));
    ours.push(row.megabytes_per_second);
    oursPerCpu.push(row.megabytes_per_processor_second);
    ourTokens = row.tokens;
  }
  const result = {
    tokenizer: file, threads: Number(options.threads), megabytes, exactflow: median(ours), peer: median(theirs), ratio: median(ours.map((rate, i) => rate / theirs[i])),
    exactflow_per_cpu_second: median(oursPerCpu), peer_per_cpu_second: median(perCpu), ratio_per_cpu_second: median(oursPerCpu.map((rate, i) => rate / perCpu[i])), tokens: ourTokens, peer_tokens: tokens,
  };
  console.log(JSON.stringify(result));
}
