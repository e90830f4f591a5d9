// Encodings of in.json (written by cases.py: small tokenizers and texts) by Hugging Face tokenizers 0.22.2 in Rust, as lines [tokenizer, text, ids, decoded, decoded with special tokens].
//   npm install @anush008/tokenizers@0.6.0
//   node reference.mjs <folder with real tokenizers> <tokenizer> <index of the first text> >> out.jsonl
// The implementation aborts the process on a few texts; `at` then holds the text to begin behind.
import { createRequire } from 'node:module';
import fs from 'node:fs';
import path from 'node:path';

const { Tokenizer } = createRequire(path.join(process.cwd(), 'x.js'))('@anush008/tokenizers');
const [real, first, start] = process.argv.slice(2);
const { tokenizers, texts } = JSON.parse(fs.readFileSync('in.json', 'utf8'));
const names = [...Object.keys(tokenizers), 'gpt-neox-olmo-dolma-v1_5', 'qwen3', 'mistral-7b-v0.1'];
for (const name of names.slice(names.indexOf(first))) {
  const tokenizer = name in tokenizers ? Tokenizer.fromString(JSON.stringify(tokenizers[name])) : Tokenizer.fromFile(path.join(real, name, 'tokenizer.json'));
  for (let i = name === first ? Number(start) : 0; i < texts.length; i++) {
    fs.writeFileSync('at', `${name} ${i}`);
    const ids = (await tokenizer.encode(texts[i])).getIds();
    console.log(JSON.stringify([name, i, ids, await tokenizer.decode(ids, true), await tokenizer.decode(ids, false)]));
  }
}
