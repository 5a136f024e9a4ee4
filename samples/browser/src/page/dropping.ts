/** Files that are dropped or chosen, with their paths; of a directory everything inside. */
import type { Dropped } from "../artifacts/artifacts";
import { input } from "./elements";

/** Hears of files on a drop zone and on the file fields in it. */
export function listen(zone: HTMLElement, fields: string[], take: (dropped: Dropped[]) => void): void {
  for (const id of fields) {
    const field = input(id);
    field.addEventListener("change", () => {
      const chosen = Array.from(field.files ?? [], (file) => ({ path: file.webkitRelativePath || file.name, file }));
      field.value = ""; // so that the same files can be chosen again
      if (chosen.length) take(chosen);
    });
  }
  const over = (event: DragEvent, inside: boolean): void => {
    event.preventDefault();
    zone.classList.toggle("over", inside && !zone.matches(":disabled *"));
  };
  zone.addEventListener("dragover", (event) => over(event, true));
  zone.addEventListener("dragleave", (event) => over(event, false));
  zone.addEventListener("drop", (event) => {
    over(event, false);
    if (zone.matches(":disabled *")) return;
    // Entries are gone once this event is over, so all are asked for now.
    const entries = Array.from(event.dataTransfer?.items ?? [], (item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
    void Promise.all(entries.map((entry) => filesIn(entry, ""))).then((found) => take(found.flat()));
  });
}

async function filesIn(entry: FileSystemEntry, base: string): Promise<Dropped[]> {
  const path = base + entry.name;
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    return [{ path, file }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: Dropped[] = [];
  for (;;) {
    // A reader gives some entries at a time, and none at the end.
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const inner of some) found.push(...(await filesIn(inner, `${path}/`)));
  }
}
