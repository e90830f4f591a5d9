// Encoding speed beside Hugging Face's Rust implementation (npm package `tokenizers`): the same tokenizer and text, contenders in turns, medians.
//   npm install tokenizers
//   node bench.mjs --exactflow <exactflow.dll> --text books.txt [--threads 1] [--turns 5] tokenizer.json...
// The peer gets the text in pieces of about 16 KB, cut at blank lines, as one batch, since it is slow on long texts; ids are not fetched into JavaScript. Ours gets the whole text.
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
const median = values => values.sort((a, b) => a - b)[values.length >> 1];

for (const file of files) {
  const peer = Tokenizer.fromFile(file);
  await peer.encodeBatch(pieces.slice(0, 64));
  const theirs = [], ours = [];
  let tokens = 0, ourTokens = 0;
  for (let turn = 0; turn < Number(options.turns); turn++) {
    const start = process.hrtime.bigint();
    const encoded = await peer.encodeBatch(pieces, undefined, { addSpecialTokens: false });
    theirs.push(megabytes / (Number(process.hrtime.bigint() - start) / 1e9));
    if (turn === 0) tokens = encoded.reduce((sum, one) => sum + one.getLength(), 0);
    const [row] = JSON.parse(execFileSync('dotnet', [options.exactflow, 'tokenizer', 'compare', file, '--text', options.text, '--threads', options.threads, '--json'], { encoding: 'utf8' }));
    ours.push(row.megabytes_per_second);
    ourTokens = row.tokens;
  }
  const result = { tokenizer: file, threads: Number(options.threads), megabytes, exactflow: median(ours), peer: median(theirs), ratio: median(ours.map((rate, i) => rate / theirs[i])), tokens: ourTokens, peer_tokens: tokens };
  console.log(JSON.stringify(result));
}
