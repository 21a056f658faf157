/** A member of an archive for tests, hostile ones too: nothing is checked. Names ending in `/` are directories. */
export interface TestMember { name: string; type?: string; data?: string; link?: string; mode?: number; size?: number }

/** A GNU tar archive. */
export function tar(members: TestMember[]): Buffer {
  return Buffer.concat([...members.flatMap(memberBlocks), Buffer.alloc(1024)]);
}

function memberBlocks(member: TestMember): Buffer[] {
  const long = (name: string, type: string) => (Buffer.byteLength(name) > 100 ? memberBlocks({ name: '././@LongLink', type, data: `${name}\0` }) : []);
  const data = Buffer.from(member.data ?? '');
  return [...long(member.name, 'L'), ...long(member.link ?? '', 'K'), header(member, data.length), data, Buffer.alloc((512 - (data.length % 512)) % 512)];
}

function header(member: TestMember, length: number): Buffer {
  const block = Buffer.alloc(512);
  const octal = (value: number, width: number) => value.toString(8).padStart(width, '0');
  const type = member.type ?? (member.name.endsWith('/') ? '5' : '0');
  block.write(member.name.slice(0, 100), 0);
  block.write(octal(member.mode ?? (type === '5' ? 0o755 : 0o644), 7), 100);
  block.write(octal(0, 7), 108);
  block.write(octal(0, 7), 116);
  block.write(octal(member.size ?? length, 11), 124);
  block.write(octal(0, 11), 136);
  block.write('        ', 148);
  block.write(type, 156);
  block.write((member.link ?? '').slice(0, 100), 157);
  block.write('ustar  \0', 257);
  block.write(`${octal(block.reduce((sum, byte) => sum + byte, 0), 6)}\0 `, 148);
  return block;
}
