// Plugins > CellScribble > CellScribble Annotate
// run("CellScribble Annotate", "images=[folder or file] strokes=[] classes=[nucleus] width=3");
// Strokes: a folder for them where they shall not lie beside the images.
// Puts a tool for each class into the tool bar and opens the first image without strokes.

begin("images strokes classes width#");
images = "";
classes = call("ij.Prefs.get", "cellscribble.classes", "cell");
if (!by_macro) images = call("ij.Prefs.get", "cellscribble.images", "");
Dialog.create("CellScribble Annotate");
Dialog.addDirectory("Images", images);
Dialog.addString("Strokes (folder; empty: beside the images)", "", 30);
Dialog.addString("Classes (with commas between, without background)", classes, 20);
Dialog.addNumber("Width of a stroke", 3, 0, 3, "px");
Dialog.show();
images = full_path(Dialog.getString());
strokes = full_path(Dialog.getString());
classes = split(toLowerCase(Dialog.getString()), ",");
width = next_number("Width");

if (is("Batch Mode")) fail("Annotate needs ImageJ's window; start ImageJ without -batch");
if (images == "" || !File.exists(images)) fail("there is no folder or image " + images + "; choose one with Images");
if (!File.isDirectory(images)) {
    first = File.getName(images);
    images = File.getParent(images);
} else first = "";
list = list_images(images);
if (list.length == 0) fail("there is no image in " + images + "; choose a folder with TIFF, PNG, JPEG or BMP files");
if (strokes == images) strokes = "";
if (strokes != "" && !File.isDirectory(strokes)) fail("there is no folder " + strokes + " for the strokes; make it, or leave Strokes empty");
place = images;
if (strokes != "") place = strokes;
if (!can_write(place + File.separator + ".cellscribble_probe")) fail("nothing can be saved in " + place + "; give a folder of your own as Strokes");
if (classes.length < 1 || classes.length > 4) fail("there are " + classes.length + " classes; give one to four, such as nucleus");
names = "background";
for (k = 0; k < classes.length; k++) {
    classes[k] = replace(classes[k], "^ +| +$", "");
    if (!matches(classes[k], "[a-z]+([ -][a-z]+)*") || matches(classes[k], "roi|selection|line|oval|rectangle|polygon|point|freehand|freeline|trace|traced|overlay|polyline|composite|ellipse|slice"))
        fail("a class cannot be called '" + classes[k] + "'; take a word of letters a to z, such as nucleus");
    names = names + "," + classes[k];
}
call("ij.Prefs.set", "cellscribble.images", images);
call("ij.Prefs.set", "cellscribble.strokes", strokes);
call("ij.Prefs.set", "cellscribble.classes", substring(names, 11));
call("ij.Prefs.set", "cellscribble.names", names);
call("ij.Prefs.set", "cellscribble.width", d2s(width, 0));

// The tools are a macro file of their own, which ImageJ keeps when this command has ended.
tools = File.openAsString(getDirectory("plugins") + "CellScribble" + File.separator + "tools.txt");
names = split(names, ",");
colours = newArray("06f", "f00", "0c0", "fd0", "f0f");
for (k = 0; k < names.length; k++) {
    tools = tools + "macro \"Stroke " + names[k] + " Tool - C" + colours[k] + "L1e5aL5a88L88d3T9f09" + k + "\" { stroke(" + k + "); }\n";
    tools = tools + "macro \"Stroke " + names[k] + " Tool Options\" { ask_width(); }\n";
    tools = tools + "macro \"Class " + names[k] + " [" + k + "]\" { choose(" + k + "); }\n";
}
file = getDirectory("temp") + "cellscribble_tools.txt";
File.saveString(tools, file);
run("Install...", "install=[" + file + "]");
if (first == "") first = first_without_strokes(place, list);
// Before the image, since it writes over the keys that the status line tells then.
setTool("Stroke " + names[1] + " Tool");
open_image(first);
done(images + File.separator + first);

function first_without_strokes(folder, list) {
    for (i = 0; i < list.length; i++)
        if (!File.exists(folder + File.separator + file_name(list[i]) + "_rois.zip")) return list[i];
    return list[0];
}

// include common.ijm
// include strokes.ijm
