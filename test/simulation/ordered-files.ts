import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import files from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";

/**
 * Replaces, in this process, reading and writing files through the thread pool by doing it at once: what is asked first is
 * answered first, or one seed would not always give one world.
 */
export function orderFiles(): void {
  const answering =
    <A extends unknown[], T>(act: (...given: A) => T) =>
    async (...given: A) =>
      act(...given);
  Object.assign(files, {
    readFile: answering(readFileSync),
    writeFile: answering(writeFileSync),
    mkdir: answering(mkdirSync),
  });
  syncBuiltinESMExports();
}
