const fs = require('fs');
const [, , from, to] = process.argv;
fs.mkdirSync(to, { recursive: true });
for (const name of fs.readdirSync(from).sort()) {
  const html = fs.readFileSync(`${from}/${name}`, 'utf8').split('\n').map((line) => (line.startsWith('# ') ? `<h1>${line.slice(2)}</h1>` : `<p>${line}</p>`)).join('\n');
  fs.writeFileSync(`${to}/${name.replace('.md', '.html')}`, html);
}
