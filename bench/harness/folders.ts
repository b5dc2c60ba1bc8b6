// The code runs from build/, two levels below bench/.

export const benchFolder = new URL("../../", import.meta.url);
export const repositoryFolder = new URL("../", benchFolder);
