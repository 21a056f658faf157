console.log('apps/api/main.js');
