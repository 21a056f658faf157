/** Imported before every test: the properties of fast-check start from HD_TEST_SEED, so that a run can be had again. */
import fc from 'fast-check';

fc.configureGlobal({ seed: Number(process.env.HD_TEST_SEED) });
