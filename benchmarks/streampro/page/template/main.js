drawHead();
drawTables();
byId("figures").append(drawPrecisionRecall(), drawReliability(), drawEarliness());
drawLegend();
startQuestions();
startTips();
