const fs = require('fs');
fs.mkdirSync('dist', { recursive: true });
for (const file of fs.readdirSync('src')) fs.writeFileSync(`dist/${file}`, `// built\n${fs.readFileSync(`src/${file}`, 'utf8')}`);
