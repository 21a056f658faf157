/** A reporter for `node --test` that prints one plain line at the end, which any reader of logs understands. */
export default async function* closingLine(source) {
  for await (const event of source) {
    if (event.type !== 'test:summary' || event.data.file !== undefined) continue;
    const { passed, failed, cancelled, skipped, todo } = event.data.counts;
    yield `${passed} passed, ${failed + cancelled} failed, ${skipped + todo} skipped\n`;
  }
}
