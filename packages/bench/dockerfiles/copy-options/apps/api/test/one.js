console.log('apps/api/test/one.js');
