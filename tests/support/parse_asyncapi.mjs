// Parse an AsyncAPI document with the official parser: parse_asyncapi.mjs DIRECTORY_WITH_NODE_MODULES FILE

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [directory, file] = process.argv.slice(2);
const { Parser } = createRequire(`${directory}/package.json`)('@asyncapi/parser');
const { document, diagnostics } = await new Parser().parse(readFileSync(file, 'utf8'));
console.log(JSON.stringify({ diagnostics, channels: document?.channels().all().length ?? null }));
