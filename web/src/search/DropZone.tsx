import { useEffect, useRef, useState } from "preact/hooks";
import { Icon } from "../icons";
import { about } from "../store";
import { isTyping } from "./keys";
import { searchFile } from "./run";

const ACCEPT = "image/jpeg,image/png,image/webp,image/tiff,.tif,.tiff";

/** A button that lets one choose an image. */
export function ChooseImage({ label = "Choose an image" }: { label?: string }) {
  const input = useRef<HTMLInputElement>(null);
  const possible = about.value?.encodes_images !== false;
  return (
    <>
      <button type="button" class="primary" disabled={!possible} onClick={() => input.current?.click()}>
        <Icon name="image" /> {label}
      </button>
      <input
        ref={input}
        type="file"
        hidden
        accept={ACCEPT}
        aria-label="Image to search with"
        onChange={(event) => {
          const file = event.currentTarget.files?.[0];
          if (file) void searchFile(file, file.name);
          event.currentTarget.value = "";
        }}
      />
    </>
  );
}

/** Takes images that are dropped anywhere on the page, or pasted. */
export function DropAnywhere() {
  const [over, setOver] = useState(false);
  useEffect(() => {
    let depth = 0;
    const files = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const on = <K extends keyof WindowEventMap>(name: K, act: (event: WindowEventMap[K]) => void) => {
      addEventListener(name, act);
      return () => removeEventListener(name, act);
    };
    const stop = [
      on("dragenter", (event) => {
        if (!files(event)) return;
        event.preventDefault();
        depth += 1;
        setOver(true);
      }),
      on("dragleave", (event) => {
        if (!files(event)) return;
        depth = Math.max(0, depth - 1);
        if (!depth) setOver(false);
      }),
      on("dragover", (event) => files(event) && event.preventDefault()),
      on("drop", (event) => {
        if (!files(event)) return;
        event.preventDefault();
        depth = 0;
        setOver(false);
        const file = event.dataTransfer?.files[0];
        if (file) void searchFile(file, file.name);
      }),
      on("paste", (event) => {
        const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
        if (!file || isTyping(event.target)) return;
        event.preventDefault();
        void searchFile(file, file.name || "pasted image");
      }),
    ];
    return () => stop.forEach((end) => end());
  }, []);
  if (!over) return null;
  return (
    <div class="drop-over" aria-hidden="true">
      <p>Drop to search</p>
    </div>
  );
}
