// Plugins > CellScribble > CellScribble Show labels
// run("CellScribble Show labels", "labels=[cells_labels.tif] rois");
// Labels: a label image of any kind that CellScribble writes (TIFF, OME-Zarr), or nothing for the open image.

begin();
Dialog.create("CellScribble Show labels");
Dialog.addString("Labels (file; empty: the open image)", "", 30);
Dialog.addCheckbox("ROIs to the ROI Manager", false);
Dialog.show();
labels = no_separator(Dialog.getString());
rois = Dialog.getCheckbox();

temporary = temporary_folder();
if (labels == "") {
    if (nImages == 0) {
        remove_folder(temporary);
        fail("no image is open; open a label image, or give a file as Labels");
    }
    image = getImageID();
    highest = colour_labels();
    if (rois) {
        run("Duplicate...", "title=cellscribble_labels duplicate");
        saveAs("Tiff", temporary + "labels.tif");
        close();
        show_rois(temporary + "labels.tif", temporary + "rois.zip", image);
        selectImage(image);
    }
} else {
    // Python writes them as ImageJ opens them: 32-bit integers, tiles and OME-Zarr it does not.
    made = exec(python, "-P", "-m", "cellscribble", "--macro", "rois", labels, temporary + "labels.tif");
    if (!File.exists(temporary + "labels.tif")) remove_folder(temporary);
    made = answer_of(made);
    open_labels(temporary + "labels.tif", 0, rois);
    rename(File.getName(labels));
}
remove_folder(temporary);
done(labels);

// include common.ijm
