console.log('apps/web/src/index.js');
