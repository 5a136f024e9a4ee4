/** Elements of the page, by what they are. */
export function element<T extends HTMLElement>(id: string, kind: { new (): T }): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} ${id}`);
  return found;
}

export const button = (id: string): HTMLButtonElement => element(id, HTMLButtonElement);
export const input = (id: string): HTMLInputElement => element(id, HTMLInputElement);
export const select = (id: string): HTMLSelectElement => element(id, HTMLSelectElement);
export const fieldset = (id: string): HTMLFieldSetElement => element(id, HTMLFieldSetElement);
export const block = (id: string): HTMLElement => element(id, HTMLElement);

/** Shows a text, or hides the element where there is none. */
export function tell(where: HTMLElement, text: string | null): void {
  where.textContent = text ?? "";
  where.hidden = !text;
}
