const fs = require('fs');
const dir = process.argv[2];
console.log(JSON.stringify(fs.readdirSync(dir).filter((name) => name.endsWith('.html')).sort()));
