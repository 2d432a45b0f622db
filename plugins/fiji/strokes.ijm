// Reading and saving strokes, for Annotate and for the tools that it puts into the tool bar.
// NAME_rois.zip beside an image is the person's truth; scribbles/NAME.tif is made from it.

function images_folder() {
    return call("ij.Prefs.get", "cellscribble.images", "") + File.separator;
}

// Where the strokes of the present image are: beside it, or in the folder that Annotate was given for all images.
function strokes_folder() {
    beside = "" + image_folder();
    annotated = "" + images_folder();
    folder = call("ij.Prefs.get", "cellscribble.strokes", "");
    if (folder == "" || beside != annotated) return beside;
    return folder + File.separator;
}

function list_images(folder) {
    files = getFileList(folder);
    list = newArray(0);
    for (i = 0; i < files.length; i++) {
        name = toLowerCase(files[i]);
        stem = file_name(name);
        if (matches(name, "[^.].*\\.(tiff?|png|jpe?g|bmp)") && !matches(stem, ".*_(labels|probability|uncertainty|overlay|scribbles?|strokes)"))
            list = Array.concat(list, files[i]);
    }
    return list;
}

function image_folder() {
    folder = getInfo("image.directory");
    if (folder == "") fail("this image has no file, so its strokes have no place; save it as TIFF, then draw");
    return "" + no_separator(folder) + File.separator;
}

function open_image(name) {
    path = "" + images_folder() + name;
    if (!can_open(path)) fail("ImageJ cannot open " + path + "; save it as a plain TIFF, or move it away");
    open(path);
    load_strokes();
    load_suggestions();
    classes = split(call("ij.Prefs.get", "cellscribble.names", "background,cell"), ",");
    keys = "";
    for (k = 0; k < classes.length; k++) keys = keys + k + " " + classes[k] + ", ";
    showStatus(name + ": " + Overlay.size + " strokes (keys: " + keys + "n next, p previous, z undo, s suggestion)");
}

// The strokes on the disk onto the image, once for each window: what is on the disk is never overwritten unread.
function load_strokes() {
    mark = "," + getImageID() + ",";
    if (indexOf(loaded, mark) >= 0) return;
    name = file_name(getInfo("image.filename"));
    zip = "" + strokes_folder() + name + "_rois.zip";
    old = "" + strokes_folder() + "." + name + "_rois.old.zip";
    // Killed between two renamings: the one before is still there.
    if (!File.exists(zip) && File.exists(old)) ok = File.rename(old, zip);
    if (File.exists(zip)) {
        if (!startsWith(File.openAsRawString(zip, 4), "PK" + fromCharCode(3)) || !is_sound(zip))
            fail(zip + " is no zip of ROIs; move it away, or save it again from the ROI Manager");
        Overlay.remove;
        kept = take_manager();
        open_rois(zip);
        n = roiManager("count");
        if (n > 0) run("From ROI Manager");
        give_manager_back(kept);
        if (n == 0) fail(zip + " cannot be read as ROIs; move it away, or save it again from the ROI Manager");
    }
    loaded = loaded + mark;
}

// Whether ImageJ may unpack a zip. A file of a few MB may be made to fill the memory; what is smaller cannot.
function is_sound(zip) {
    if (File.length(zip) < 250000) return true;
    answer = exec(python, "-P", "-c", "import sys, pathlib; from cellscribble.io.roi_zip import read_zip; list(read_zip(pathlib.Path(sys.argv[1]))); print('OK')", zip);
    if (startsWith(answer, "OK")) return true;
    return false;
}

// All strokes of the present image into its zip, whole or not at all; then, aside, the scribble TIFF.
function save_strokes() {
    folder = "" + strokes_folder();
    file = getInfo("image.filename");
    name = file_name(file);
    zip = folder + name + "_rois.zip";
    fresh = folder + "." + name + "_rois.new.zip";
    old = folder + "." + name + "_rois.old.zip";
    if (File.exists(fresh)) ok = File.delete(fresh);
    if (Overlay.size == 0) {
        if (File.exists(zip)) ok = File.delete(zip);
        if (File.exists(folder + "scribbles" + File.separator + name + ".tif"))
            ok = File.delete(folder + "scribbles" + File.separator + name + ".tif");
        return;
    }
    if (can_write(fresh)) write_overlay(fresh);
    else {
        rescue = getDirectory("home") + "cellscribble_strokes_" + name + ".zip";
        write_overlay(rescue);
        fail("nothing can be saved in " + folder + "; the strokes are in " + rescue + " instead: copy the image into a folder of your own");
    }
    // In two steps, since Windows renames onto no file that is there.
    if (File.exists(old)) ok = File.delete(old);
    if (File.exists(zip)) ok = File.rename(zip, old);
    ok = File.rename(fresh, zip);
    if (File.exists(old)) ok = File.delete(old);
    getDimensions(width, height, channels, slices, frames);
    // A series has as many scribble TIFFs as time points: `cellscribble rois` makes them from the zip.
    if (frames > 1) return;
    names = call("ij.Prefs.get", "cellscribble.classes", "");
    setOption("WaitForCompletion", false);
    ok = exec(python, "-P", "-m", "cellscribble", "--macro", "rois", zip, folder + "scribbles" + File.separator + name + ".tif", "--like", "" + image_folder() + file, "--scribbles", "--overwrite", "--classes", names);
}

function write_overlay(path) {
    getDimensions(width, height, channels, slices, frames);
    Stack.getPosition(channel, slice, frame);
    kept = take_manager();
    // One by one: ImageJ's own To ROI Manager puts numbers before the names.
    for (i = 0; i < Overlay.size; i++) {
        Overlay.activateSelection(i);
        roiManager("add");
    }
    roiManager("deselect");
    roiManager("save", path);
    run("Select None");
    if (channels * slices * frames > 1) Stack.setPosition(channel, slice, frame);
    give_manager_back(kept);
}

// ImageJ's own ways to write stop with a window where they fail, this one does not.
function can_write(path) {
    ok = call("ij.IJ.saveString", "x", path);
    if (!File.exists(path)) return false;
    ok = File.delete(path);
    return true;
}

// The ROI Manager is the person's: what is in it is put aside and comes back. Meanwhile nothing is drawn on the screen.
function take_manager() {
    if (isOpen("Recorder") && !isOpen("ROI Manager")) {
        // In batch mode it has no window, and what it opens would be recorded: see open_rois.
        image = getImageID();
        run("ROI Manager...");
        selectImage(image);
    }
    setBatchMode(true);
    kept = "";
    if (roiManager("count") > 0) {
        kept = getDirectory("temp") + "cellscribble_kept_" + d2s(getTime(), 0) + ".zip";
        roiManager("deselect");
        roiManager("save", kept);
    }
    roiManager("reset");
    return kept;
}

function give_manager_back(kept) {
    roiManager("reset");
    if (kept != "") {
        open_rois(kept);
        ok = File.delete(kept);
    }
    setBatchMode(false);
}

// Boxes of CellScribble Suggest regions for this image into the ROI Manager; those of another image go.
function load_suggestions() {
    name = file_name(getInfo("image.filename"));
    zip = "" + strokes_folder() + name + "_suggestions.zip";
    if (!File.exists(zip)) zip = "" + image_folder() + name + "_suggestions.zip";
    if (!isOpen("ROI Manager") && !File.exists(zip)) return;
    for (i = roiManager("count") - 1; i >= 0; i--) {
        roi = RoiManager.getName(i);
        if (startsWith(roi, "suggest_")) {
            roiManager("select", i);
            roiManager("delete");
        }
    }
    run("Select None");
    if (!File.exists(zip)) return;
    open_rois(zip);
    roiManager("deselect");
    roiManager("show all with labels");
}

// To the next box: near, in the middle, and nothing selected, since a class's key would make a stroke of it.
function next_suggestion() {
    if (nImages == 0) return;
    n = 0;
    if (isOpen("ROI Manager")) n = roiManager("count");
    for (i = 1; i <= n; i++) {
        k = (suggestion + i) % n;
        name = RoiManager.getName(k);
        if (startsWith(name, "suggest_")) {
            suggestion = k;
            roiManager("select", k);
            run("To Selection");
            // Some of what is around it helps to see what it is.
            run("Out [-]");
            roiManager("deselect");
            run("Select None");
            roiManager("show all with labels");
            showStatus(name + ": draw here");
            return;
        }
    }
    showStatus("CellScribble: no suggestions for this image; CellScribble Suggest regions makes them");
}

var loaded = "";
var suggestion = -1;
