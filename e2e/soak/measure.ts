import { readFileSync, readdirSync, readlinkSync } from 'node:fs';

/** What an environment's processes hold at one moment. */
export interface Usage {
  /** Resident memory of the supervisor and of the process that serves files, bytes. */
  supervisorBytes: number;
  hostBytes: number;
  /** Descriptors of both. */
  supervisorFds: number;
  hostFds: number;
  /** All processes in the environment's mount namespace and in those made from it. */
  processes: number;
  mounts: number;
}

/** @param hdHome is in the command line or in a mount of every process of the environment */
export function usageOf(supervisorPid: number, hostPid: number, hdHome: string): Usage {
  return {
    supervisorBytes: rssBytes(supervisorPid), hostBytes: rssBytes(hostPid), supervisorFds: fds(supervisorPid), hostFds: fds(hostPid),
    processes: processesOf(supervisorPid, hdHome), mounts: readFileSync(`/proc/${supervisorPid}/mountinfo`, 'utf8').split('\n').filter((line) => line.includes(hdHome)).length,
  };
}

function rssBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
}

function fds(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

function processesOf(supervisorPid: number, hdHome: string): number {
  const namespace = readlinkSync(`/proc/${supervisorPid}/ns/mnt`);
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).filter((pid) => {
    try {
      return readlinkSync(`/proc/${pid}/ns/mnt`) === namespace || readFileSync(`/proc/${pid}/mountinfo`, 'utf8').includes(hdHome);
    } catch {
      return false;
    }
  }).length;
}
