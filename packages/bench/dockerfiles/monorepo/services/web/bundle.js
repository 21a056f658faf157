const fs = require('fs');
fs.mkdirSync('dist');
fs.writeFileSync('dist/bundle.js', ['shared/version', 'page.js'].map((file) => fs.readFileSync(file, 'utf8')).join('\n'));
