// node --liftoff-only pscheck.mjs < JSON {name: source}
// prints one line for each syntax error; exit 1 when there is one. Without
// --liftoff-only V8 spends half a minute on the lexer.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Language, Parser } from 'web-tree-sitter';

await Parser.init();
const wasm = createRequire(import.meta.url).resolve('tree-sitter-powershell/tree-sitter-powershell.wasm');
const parser = new Parser();
parser.setLanguage(await Language.load(wasm));

let bad = 0;
for (const [name, source] of Object.entries(JSON.parse(readFileSync(0, 'utf8')))) {
  const walk = (node) => {
    if (node.isError || node.isMissing) {
      bad++;
      const at = `${name}:${node.startPosition.row + 1}:${node.startPosition.column + 1}`;
      console.log(`${at}: ${node.isMissing ? `missing ${node.type}` : `syntax error near ${JSON.stringify(node.text.slice(0, 60))}`}`);
    } else if (node.hasError) {
      for (const child of node.children) walk(child);
    }
  };
  walk(parser.parse(source).rootNode);
}
process.exit(bad ? 1 : 0);
