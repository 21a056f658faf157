/**
 * A step that leaves every kind of entry and every kind of change that an overlay's upper directory can hold: whiteouts, opaque directories, renamed ones, hard
 * links, links to nowhere, modes, owners, attributes, holes, times, odd names. It takes `EVERYTHING_PROJECT`.
 */
export const EVERYTHING = `set -e
rm removed; rm -r tree/removed
rm -r replaced; mkdir replaced; echo new > replaced/new
mv renamed moved; echo added > moved/sub/added; rm moved/gone
mv tree/inner tree/outer; mv tree branch
rm to-dir; mkdir to-dir; echo x > to-dir/x
rm -r to-file; echo file > to-file
echo a > hard-1; ln hard-1 hard-2; mkdir links; ln hard-1 links/hard-3
ln -s hard-1 link; ln -s nowhere dangling; ln -s /etc/app.conf absolute; ln -s .. up
mkdir -m 1777 sticky; mkdir -m 700 private; echo s > setuid; chmod 4755 setuid; mkdir -m 2775 setgid
echo o > owned; chown 12:34 owned; chown -h 56 dangling; chown 7:8 links
mkfifo pipe
if command -v setfattr > /dev/null; then setfattr -n user.note -v value hard-1; setfattr -n user.note -v dir sticky; fi
truncate -s 300000 hole; printf end | dd of=hole bs=1 seek=200000 conv=notrunc 2> /dev/null
: > empty; mkdir hollow
touch -d '2001-02-03 04:05:06' old; touch -h -d '2002-02-03 04:05:06' link 2> /dev/null || true; touch -d '2003-02-03 04:05:06' sticky
echo odd > 'with space'; echo odd > $'new\\nline'; echo odd > $'inv\\377alid'; mkdir $'d\\377'; echo odd > $'d\\377/ü'
echo more >> appended; chmod 600 chmodded; chown 3 'odd dir'; echo below > 'odd dir/below'
rm /opt/base/in/linked; echo etc >> /etc/app.conf
`;

export const EVERYTHING_PROJECT: Readonly<Record<string, string>> = {
  'removed': 'x', 'tree/removed/x': 'x', 'tree/inner/x': 'x', 'replaced/old': 'x', 'renamed/sub/kept': 'x', 'renamed/gone': 'x', 'to-dir': 'x', 'to-file/x': 'x', 'appended': 'x\n',
  'chmodded': 'x', 'odd dir/x': 'x',
};

/** Prints all that can be seen of every path, in order, but for the sizes and link counts of directories. */
export const LIST_EVERYTHING = `
find . /opt /etc -print0 | sort -z | xargs -0 -n 1 sh -c '
if [ -d "$0" ] && [ ! -L "$0" ]; then stat -c "%n %F %a %u:%g %y" "$0"; else stat -c "%n %F %s %h %a %u:%g %y %N" "$0"; fi
if [ -f "$0" ] && [ ! -L "$0" ]; then sha256sum < "$0"; fi
getfattr -h -d "$0" 2> /dev/null || true'
`;
